variable "name" {
  description = "Prefix of names."
  type        = string
}

variable "environment" {
  description = "The GitHub environment that may deploy."
  type        = string
}

variable "repository" {
  description = "OWNER/NAME on GitHub."
  type        = string
}

variable "oidc_provider_arn" {
  description = "The account's provider for GitHub's tokens."
  type        = string
}

variable "repository_arns" {
  description = "Image repositories by name."
  type        = map(string)
}

variable "models_bucket_arn" {
  description = "Where MLflow keeps models."
  type        = string
}

variable "kms_key_arn" {
  description = "Key of the models."
  type        = string
}

variable "service_arn" {
  description = "The service that may be deployed to."
  type        = string
}

variable "task_role_arns" {
  description = "Roles of its tasks."
  type        = list(string)
}
