variable "name" {
  description = "Prefix of names."
  type        = string
}
