"""Parts of the experiment on fine-tuning: made-up language, pretraining, low-rank adapters, and what is trained."""
