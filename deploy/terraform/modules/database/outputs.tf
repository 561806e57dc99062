output "address" {
  description = "Host and port."
  value       = aws_db_instance.this.endpoint
}

output "secret_arn" {
  description = "Secret with the password, which RDS rotates."
  value       = one(aws_db_instance.this.master_user_secret[*].secret_arn)
}
