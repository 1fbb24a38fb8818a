"""The page at `/`: what the runs do, live, without a build step."""
