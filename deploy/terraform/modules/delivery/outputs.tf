output "role_arns" {
  description = "Roles by purpose: build, deploy."
  value       = { for purpose, role in aws_iam_role.this : purpose => role.arn }
}
