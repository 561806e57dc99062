variable "name" {
  description = "First part of every resource's name."
  type        = string
  default     = "credit-scoring"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name: 3 to 20 lower-case letters, digits and hyphens."
  }
}

variable "environment" {
  description = "staging or production."
  type        = string

  validation {
    condition     = contains(["staging", "production"], var.environment)
    error_message = "environment: staging or production."
  }
}

variable "region" {
  description = "AWS region."
  type        = string
}

variable "network_cidr" {
  description = "Addresses of the VPC, a /16."
  type        = string

  validation {
    condition     = can(cidrnetmask(var.network_cidr)) && endswith(var.network_cidr, "/16")
    error_message = "network_cidr: an IPv4 /16 such as 10.20.0.0/16."
  }
}

variable "availability_zones" {
  description = "Zones to spread over; at least two."
  type        = list(string)

  validation {
    condition     = length(var.availability_zones) >= 2 && length(var.availability_zones) <= 4
    error_message = "availability_zones: two to four zones."
  }
}

variable "client_cidrs" {
  description = "Networks that may call the load balancer, such as those of the lender's loan system."
  type        = list(string)

  validation {
    condition     = length(var.client_cidrs) > 0 && !contains(var.client_cidrs, "0.0.0.0/0")
    error_message = "client_cidrs: at least one network, and not the whole internet."
  }
}

variable "certificate_arn" {
  description = "Certificate of the load balancer's name, in ACM."
  type        = string
}

variable "image" {
  description = "What is served at first, by digest: REGISTRY/credit-scoring@sha256:...; later deployments change it."
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "image: must end in @sha256: and 64 hexadecimal digits; a tag may come to mean something else."
  }
}

variable "offline_image" {
  description = "Image with the offline environment, by digest; it closes and archives the decision log."
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.offline_image))
    error_message = "offline_image: must end in @sha256: and 64 hexadecimal digits."
  }
}

variable "cpu" {
  description = "CPU units of a task; 1024 are one vCPU. A worker is one process: more than one vCPU is idle."
  type        = number
  default     = 1024
}

variable "memory" {
  description = "MiB of a task."
  type        = number
  default     = 2048
}

variable "tasks" {
  description = "Fewest and most tasks of the service, and the CPU utilisation in percent that it is held at."
  type = object({
    min         = number
    max         = number
    cpu_percent = number
  })
  default = { min = 2, max = 10, cpu_percent = 70 }

  validation {
    condition     = var.tasks.min >= 2 && var.tasks.max >= var.tasks.min
    error_message = "tasks: at least two, so that a zone may fail, and no fewer at most than at least."
  }

  validation {
    condition     = var.tasks.cpu_percent > 0 && var.tasks.cpu_percent <= 90
    error_message = "tasks.cpu_percent: above 0 and at most 90."
  }
}

variable "feature_store" {
  description = "Network and port of the Redis that clients' histories are looked up in; its address is a file beside the API keys. Null if there is none."
  type = object({
    cidr = string
    port = optional(number, 6379)
  })
  default = null

  validation {
    condition     = var.feature_store == null || try(cidrnetmask(var.feature_store.cidr) != "0.0.0.0", false)
    error_message = "feature_store.cidr: an IPv4 network such as 10.20.64.0/24, and not the whole internet."
  }
}

variable "database" {
  description = "Size of the PostgreSQL that MLflow and Optuna keep their records in."
  type = object({
    instance_class   = string
    storage_gb       = number
    multi_az         = bool
    backup_days      = number
    protect_deletion = bool
  })
}

variable "retention_days" {
  description = "Days that decisions are kept in S3, and service logs in CloudWatch."
  type = object({
    decisions = number
    logs      = number
  })
}

variable "repository" {
  description = "OWNER/NAME on GitHub whose workflows may push images and deploy."
  type        = string

  validation {
    condition     = can(regex("^[^/*]+/[^/*]+$", var.repository))
    error_message = "repository: OWNER/NAME, without wildcards."
  }
}

variable "github_oidc_provider_arn" {
  description = "The account's provider for token.actions.githubusercontent.com; an account has one."
  type        = string
}

variable "budget" {
  description = "USD per month, and who hears of it."
  type = object({
    monthly_usd = number
    emails      = list(string)
  })

  validation {
    condition     = var.budget.monthly_usd > 0 && length(var.budget.emails) > 0
    error_message = "budget: a positive amount and at least one address."
  }
}
