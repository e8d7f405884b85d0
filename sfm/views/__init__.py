"""What people look at: figures of two photos, the viewer and its pictures, the report."""
