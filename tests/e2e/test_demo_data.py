"""A node that is filled to be looked at."""

from __future__ import annotations

import subprocess
import urllib.request
from pathlib import Path

from tests.e2e.nodes import TOKENDANCE, clean_environment, running
from tests.e2e.upstream import Upstream

from tokendance import Client
from tokendance.gateway.v1 import keys_service_pb2, organizations_service_pb2, quota_service_pb2, status_service_pb2
from tokendance_cli.demo_models import MODELS


def test_a_node_is_filled_to_be_looked_at(upstream: Upstream, tmp_path: Path) -> None:
    """With organizations, keys, requests that wait, an incident that is over, and usage of as many days as asked."""
    with running("one", tmp_path, upstream.base_url, ["sim"]) as node:
        command = [str(TOKENDANCE), "--data-dir", str(node.data_dir), "demo-data", "--days", "2"]
        done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert "calls over 2 days" in done.stdout
        with urllib.request.urlopen(f"{node.origin}/models", timeout=10) as page:
            shown = page.read().decode()
        assert all(one.id in shown for one in MODELS)
        assert "No model is public" not in shown
        with Client(f"unix:{node.data_dir / 'admin.sock'}", api_key="") as client:
            stubs = client.stubs
            listed = stubs.organizations.ListOrganizations(organizations_service_pb2.ListOrganizationsRequest())
            assert {"Northwind Research", "Harbour Support"} < {one.display_name for one in listed.organizations}
            waiting = keys_service_pb2.ListKeyRequestsRequest(
                parent="organizations/-", state=keys_service_pb2.KEY_REQUEST_STATE_PENDING
            )
            assert len(stubs.keys.ListKeyRequests(waiting).key_requests) == 4
            usage = stubs.quota.GetUsage(
                quota_service_pb2.GetUsageRequest(
                    parent="organizations/-", interval=quota_service_pb2.USAGE_INTERVAL_DAY
                )
            )
            assert len({row.start_time.seconds for row in usage.rows}) == 2
            assert usage.totals.cost_micros > 0
            (incident,) = stubs.status.ListIncidents(status_service_pb2.ListIncidentsRequest()).incidents
            assert incident.phase == status_service_pb2.INCIDENT_PHASE_RESOLVED
