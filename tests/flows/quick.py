"""Settings of short training, for the tests."""

AUTOREGRESSIVE = {
    "kind": "autoregressive",
    "flow": {"hidden": 8, "layers": 2},
    "budget_seconds": 0,
    "max_iterations": 60,
    "batch_size": 32,
    "warm_start_batch_size": 64,
    "report_every": 10,
    "certify_draws": 200,
    "normalisation_draws": 2000,
    "converged_nats": 0.0,
}
