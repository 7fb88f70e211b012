"""The components: a reference with knobs, probes and mistakes, one file each."""
