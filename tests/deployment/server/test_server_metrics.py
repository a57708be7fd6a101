"""The text format of Prometheus."""

from hf_fusion.deployment.server.metrics import ServerMetrics


def test_text_has_counters_gauge_and_histograms():
    metrics = ServerMetrics(lambda: 7)
    metrics.note_request("/predict", 200, 0.03)
    metrics.note_request("/predict", 200, 400.0)
    metrics.note_request("/predict", 503, 0.0)
    metrics.note_batch(3, 0.2)
    lines = metrics.text().splitlines()
    assert 'hf_fusion_requests_total{route="/predict",status="200"} 2' in lines
    assert 'hf_fusion_requests_total{route="/predict",status="503"} 1' in lines
    assert "hf_fusion_queue_inputs 7" in lines
    assert 'hf_fusion_request_seconds_bucket{le="0.025"} 0' in lines
    assert 'hf_fusion_request_seconds_bucket{le="0.05"} 1' in lines
    assert 'hf_fusion_request_seconds_bucket{le="+Inf"} 2' in lines and "hf_fusion_request_seconds_count 2" in lines
    assert "hf_fusion_request_seconds_sum 400.03" in lines
    assert 'hf_fusion_batch_inputs_bucket{le="2"} 0' in lines and 'hf_fusion_batch_inputs_bucket{le="4"} 1' in lines
    assert "hf_fusion_batch_inputs_sum 3" in lines and "hf_fusion_batch_seconds_count 1" in lines
    types = [line for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types)) == 5 and metrics.text().endswith("\n")
