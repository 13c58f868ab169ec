"""Deployment: a bundle's graphs as engines of this machine, built, checked, measured and kept."""

from __future__ import annotations

from dff_edge.deploy.deploy import Deployed as Deployed
from dff_edge.deploy.deploy import EngineReport as EngineReport
from dff_edge.deploy.deploy import deploy_bundle as deploy_bundle
from dff_edge.deploy.open import open_target as open_target
from dff_edge.deploy.target import Target as Target
from dff_edge.deploy.target import precisions_of as precisions_of
from dff_edge.deploy.target import refusal_of as refusal_of
