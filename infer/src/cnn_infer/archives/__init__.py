"""Pictures in archives (zip, tar, tar.gz), read in place. Nothing is unpacked to a path that an archive chooses."""
