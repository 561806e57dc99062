locals {
  name = "${var.name}-${var.environment}"
}

module "encryption" {
  source = "./modules/encryption"

  name = local.name
}

module "network" {
  source = "./modules/network"

  name               = local.name
  cidr               = var.network_cidr
  availability_zones = var.availability_zones
  kms_key_arn        = module.encryption.key_arn
  log_days           = var.retention_days.logs
}

module "storage" {
  source = "./modules/storage"

  name           = local.name
  kms_key_arn    = module.encryption.key_arn
  decisions_days = var.retention_days.decisions
  disposable     = !var.database.protect_deletion
}

module "registry" {
  source = "./modules/registry"

  name         = local.name
  repositories = ["credit-scoring", "credit-scoring-offline"]
  kms_key_arn  = module.encryption.key_arn
  disposable   = !var.database.protect_deletion
}

module "database" {
  source = "./modules/database"

  name         = local.name
  vpc_id       = module.network.vpc_id
  subnet_ids   = module.network.database_subnet_ids
  client_cidrs = module.network.private_cidrs
  kms_key_arn  = module.encryption.key_arn
  size         = var.database
}

module "service" {
  source = "./modules/service"

  name               = local.name
  region             = var.region
  vpc_id             = module.network.vpc_id
  network_cidr       = var.network_cidr
  private_subnet_ids = module.network.private_subnet_ids
  client_cidrs       = var.client_cidrs
  s3_prefix_list_id  = module.network.s3_prefix_list_id
  certificate_arn    = var.certificate_arn
  image              = var.image
  offline_image      = var.offline_image
  repository_arns    = values(module.registry.repository_arns)
  cpu                = var.cpu
  memory             = var.memory
  tasks              = var.tasks
  feature_store      = var.feature_store
  kms_key_arn        = module.encryption.key_arn
  decisions_bucket   = module.storage.buckets.decisions
  access_log_bucket  = module.storage.access_log_bucket
  log_days           = var.retention_days.logs
  protected          = var.database.protect_deletion
  alarm_topic_arn    = module.budget.topic_arn
}

module "delivery" {
  source = "./modules/delivery"

  name              = local.name
  environment       = var.environment
  repository        = var.repository
  oidc_provider_arn = var.github_oidc_provider_arn
  repository_arns   = module.registry.repository_arns
  models_bucket_arn = module.storage.buckets.models.arn
  service_arn       = module.service.service.arn
  task_role_arns    = module.service.role_arns
  kms_key_arn       = module.encryption.key_arn
}

module "budget" {
  source = "./modules/budget"

  name        = local.name
  kms_key_arn = module.encryption.key_arn
  monthly_usd = var.budget.monthly_usd
  emails      = var.budget.emails
}
