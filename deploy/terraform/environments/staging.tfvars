environment        = "staging"
region             = "eu-west-1"
network_cidr       = "10.20.0.0/16"
availability_zones = ["eu-west-1a", "eu-west-1b"]
tasks              = { min = 2, max = 4, cpu_percent = 70 }
retention_days     = { decisions = 90, logs = 30 }

database = {
  instance_class   = "db.t4g.small"
  storage_gb       = 20
  multi_az         = false
  backup_days      = 7
  protect_deletion = false
}
