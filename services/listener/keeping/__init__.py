"""What becomes of images after they were registered.

`shipping` sends them from the listener's disk to a store in S3; `resolving` has a conflict become
its instance when a policy or a person decided so; `retention` chooses the studies whose images are
removed and `removal` removes them; `coming_back` finds studies whose lost files are there again;
`watermark` tells when the disk is nearly full. Public: `shipping.Shipping`, `resolving.Resolving`,
`retention.Retention`, `watermark.Watermark`, `coming_back.studies_that_came_back`.
"""

__all__: list[str] = []
