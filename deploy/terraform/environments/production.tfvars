environment        = "production"
region             = "eu-west-1"
network_cidr       = "10.30.0.0/16"
availability_zones = ["eu-west-1a", "eu-west-1b", "eu-west-1c"]
tasks              = { min = 2, max = 10, cpu_percent = 70 }
retention_days     = { decisions = 1825, logs = 365 }

database = {
  instance_class   = "db.m7g.large"
  storage_gb       = 50
  multi_az         = true
  backup_days      = 35
  protect_deletion = true
}
