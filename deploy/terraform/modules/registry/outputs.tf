output "repository_urls" {
  description = "Addresses by name."
  value       = { for name, repository in aws_ecr_repository.this : name => repository.repository_url }
}

output "repository_arns" {
  description = "ARNs by name."
  value       = { for name, repository in aws_ecr_repository.this : name => repository.arn }
}
