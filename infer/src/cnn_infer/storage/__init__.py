"""Object storage and web servers: URLs such as ``s3://bucket/photos``, read and written with fsspec."""
