output "address" {
  description = "DNS name of the load balancer."
  value       = aws_lb.this.dns_name
}

output "service" {
  description = "Names and ARN."
  value = {
    cluster = aws_ecs_cluster.this.name
    name    = aws_ecs_service.this.name
    arn     = aws_ecs_service.this.id
  }
}

output "role_arns" {
  description = "Roles that its tasks run with."
  value       = [aws_iam_role.this["execution"].arn, aws_iam_role.this["service"].arn]
}

output "secret_arns" {
  description = "Secrets by name; their values are put in by hand."
  value       = { for name, secret in aws_secretsmanager_secret.this : name => secret.arn }
}
