variable "name" {
  description = "Prefix of names."
  type        = string
}

variable "cidr" {
  description = "Addresses of the VPC, a /16."
  type        = string
}

variable "availability_zones" {
  description = "Zones to spread over."
  type        = list(string)
}

variable "kms_key_arn" {
  description = "Key of the flow logs."
  type        = string
}

variable "log_days" {
  description = "Days that flow logs are kept."
  type        = number
}
