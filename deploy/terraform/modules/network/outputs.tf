output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "private_subnet_ids" {
  description = "Where tasks and the load balancer run."
  value       = [for subnet in aws_subnet.private : subnet.id]
}

output "private_cidrs" {
  description = "Addresses of those subnets."
  value       = [for subnet in aws_subnet.private : subnet.cidr_block]
}

output "database_subnet_ids" {
  description = "Where the database runs."
  value       = [for subnet in aws_subnet.database : subnet.id]
}

output "s3_prefix_list_id" {
  description = "Addresses of S3 behind the gateway endpoint."
  value       = aws_vpc_endpoint.s3.prefix_list_id
}
