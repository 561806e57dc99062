variable "name" {
  description = "Prefix of names."
  type        = string
}

variable "region" {
  description = "AWS region."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "network_cidr" {
  description = "Addresses of the VPC."
  type        = string
}

variable "private_subnet_ids" {
  description = "Where tasks and the load balancer run."
  type        = list(string)
}

variable "client_cidrs" {
  description = "Networks that may call."
  type        = list(string)
}

variable "s3_prefix_list_id" {
  description = "Addresses of S3 behind its gateway."
  type        = string
}

variable "certificate_arn" {
  description = "Certificate of the load balancer."
  type        = string
}

variable "image" {
  description = "What is served at first, by digest."
  type        = string
}

variable "offline_image" {
  description = "Image with the offline environment, by digest."
  type        = string
}

variable "repository_arns" {
  description = "Image repositories that tasks pull from."
  type        = list(string)
}

variable "cpu" {
  description = "CPU units of a task."
  type        = number
}

variable "memory" {
  description = "MiB of a task."
  type        = number
}

variable "tasks" {
  description = "Fewest, most, and CPU utilisation in percent."
  type = object({
    min         = number
    max         = number
    cpu_percent = number
  })
}

variable "feature_store" {
  description = "Network and port of the Redis with clients' histories; null if the service has none."
  type = object({
    cidr = string
    port = number
  })
}

variable "kms_key_arn" {
  description = "Key of logs, files and secrets."
  type        = string
}

variable "decisions_bucket" {
  description = "Where closed segments go."
  type = object({
    name = string
    arn  = string
  })
}

variable "access_log_bucket" {
  description = "Where the load balancer's access log goes."
  type        = string
}

variable "log_days" {
  description = "Days that service logs are kept."
  type        = number
}

variable "protected" {
  description = "Whether the load balancer is protected from deletion."
  type        = bool
}

variable "alarm_topic_arn" {
  description = "Where alarms are published."
  type        = string
}
