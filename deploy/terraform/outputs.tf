output "address" {
  description = "DNS name of the load balancer; the certificate's name is an alias of it."
  value       = module.service.address
}

output "service" {
  description = "Cluster and service of the running tasks."
  value       = module.service.service
}

output "repositories" {
  description = "Addresses of the image repositories by name."
  value       = module.registry.repository_urls
}

output "buckets" {
  description = "Names of the buckets of models and decisions."
  value       = { for name, bucket in module.storage.buckets : name => bucket.name }
}

output "database" {
  description = "Address of PostgreSQL and the secret that holds its password."
  value       = { address = module.database.address, secret_arn = module.database.secret_arn }
}

output "delivery_roles" {
  description = "Roles that the repository's workflows assume: push images and read models, or deploy."
  value       = module.delivery.role_arns
}

output "secrets" {
  description = "Secrets whose values are put in by hand, so that no state holds them."
  value       = module.service.secret_arns
}
