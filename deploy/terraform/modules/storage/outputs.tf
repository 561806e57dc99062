output "buckets" {
  description = "Name and ARN by purpose: models, decisions."
  value       = { for purpose, bucket in aws_s3_bucket.this : purpose => { name = bucket.id, arn = bucket.arn } }
}

output "access_log_bucket" {
  description = "Where access logs go; known once its policy lets them in."
  value       = aws_s3_bucket_policy.access_logs.bucket
}
