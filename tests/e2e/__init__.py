"""The whole stack as processes, with a stand-in PACS and real heads."""
