variable "name" {
  description = "Prefix of names, and the tag Project whose costs count."
  type        = string
}

variable "kms_key_arn" {
  description = "Key of the alarm topic."
  type        = string
}

variable "monthly_usd" {
  description = "USD per month."
  type        = number
}

variable "emails" {
  description = "Who hears of alarms."
  type        = list(string)
}
