"""The one seam that knows storage: buckets, mounts, caches, locks; gives inventories and bytes."""
