resource "aws_security_group" "this" {
  # checkov:skip=CKV2_AWS_5:each is attached below or in main.tf
  for_each = {
    balancer = "HTTPS from callers"
    service  = "Scoring from the balancer"
    files    = "NFS from tasks"
  }

  name        = "${var.name}-${each.key}"
  description = each.value
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = toset(var.client_cidrs)

  security_group_id = aws_security_group.this["balancer"].id
  description       = "HTTPS from ${each.key}"
  cidr_ipv4         = each.key
  from_port         = 443
  to_port           = 443
  ip_protocol       = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "balancer" {
  security_group_id            = aws_security_group.this["balancer"].id
  description                  = "To the tasks"
  referenced_security_group_id = aws_security_group.this["service"].id
  from_port                    = local.port
  to_port                      = local.port
  ip_protocol                  = "tcp"
}

resource "aws_vpc_security_group_ingress_rule" "service" {
  security_group_id            = aws_security_group.this["service"].id
  description                  = "From the balancer"
  referenced_security_group_id = aws_security_group.this["balancer"].id
  from_port                    = local.port
  to_port                      = local.port
  ip_protocol                  = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "endpoints" {
  security_group_id = aws_security_group.this["service"].id
  description       = "To AWS services inside the VPC"
  cidr_ipv4         = var.network_cidr
  from_port         = 443
  to_port           = 443
  ip_protocol       = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "s3" {
  security_group_id = aws_security_group.this["service"].id
  description       = "To S3 through its gateway"
  prefix_list_id    = var.s3_prefix_list_id
  from_port         = 443
  to_port           = 443
  ip_protocol       = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "files" {
  security_group_id            = aws_security_group.this["service"].id
  description                  = "To the decision log"
  referenced_security_group_id = aws_security_group.this["files"].id
  from_port                    = 2049
  to_port                      = 2049
  ip_protocol                  = "tcp"
}

resource "aws_vpc_security_group_egress_rule" "feature_store" {
  count = var.feature_store == null ? 0 : 1

  security_group_id = aws_security_group.this["service"].id
  description       = "To the feature store"
  cidr_ipv4         = var.feature_store.cidr
  from_port         = var.feature_store.port
  to_port           = var.feature_store.port
  ip_protocol       = "tcp"
}

resource "aws_vpc_security_group_ingress_rule" "files" {
  security_group_id            = aws_security_group.this["files"].id
  description                  = "From tasks"
  referenced_security_group_id = aws_security_group.this["service"].id
  from_port                    = 2049
  to_port                      = 2049
  ip_protocol                  = "tcp"
}
