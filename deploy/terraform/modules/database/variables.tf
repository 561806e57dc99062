variable "name" {
  description = "Prefix of names."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Where the database runs."
  type        = list(string)
}

variable "client_cidrs" {
  description = "Networks that may connect."
  type        = list(string)
}

variable "kms_key_arn" {
  description = "Key of storage, password and insights."
  type        = string
}

variable "size" {
  description = "Instance, storage and backups."
  type = object({
    instance_class   = string
    storage_gb       = number
    multi_az         = bool
    backup_days      = number
    protect_deletion = bool
  })

  validation {
    condition     = var.size.backup_days >= 7 && var.size.backup_days <= 35
    error_message = "backup_days: 7 to 35."
  }
}
