variable "name" {
  description = "Prefix of names."
  type        = string
}

variable "repositories" {
  description = "Names of the image repositories."
  type        = set(string)
}

variable "kms_key_arn" {
  description = "Key of the images."
  type        = string
}

variable "disposable" {
  description = "Whether `terraform destroy` may delete repositories with images in them."
  type        = bool
}
