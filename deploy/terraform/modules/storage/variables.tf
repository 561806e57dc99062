variable "name" {
  description = "Prefix of names."
  type        = string
}

variable "kms_key_arn" {
  description = "Key of the objects."
  type        = string
}

variable "decisions_days" {
  description = "Days that decisions are kept."
  type        = number

  validation {
    condition     = var.decisions_days >= 2
    error_message = "decisions_days: at least 2."
  }
}

variable "disposable" {
  description = "Whether `terraform destroy` may delete buckets with objects in them."
  type        = bool
}
