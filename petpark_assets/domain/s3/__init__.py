"""S3 by any server that speaks it: who may, what a refusal means, a bucket's objects, and the store in a bucket."""
