"""The flow: draw, lease, report, fold, train, ack. `sampler.py` is the flow on one page.

Uses the ports only; knows neither HTTP nor a driver.
"""
