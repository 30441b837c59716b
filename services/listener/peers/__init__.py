"""What is agreed with the systems that send, from the settings.

`admission_rules` are the plain values by which the doors decide who may send; `policies` are a
sender's quiet period and what becomes of its conflicts; `presentation_contexts` is the table of SOP
classes and transfer syntaxes that are accepted. Public: `admission_rules.admission_rules`,
`admission_rules.tls_files`, `policies.QuietPeriods`, `policies.ConflictPolicies`,
`presentation_contexts.accepted_contexts`.
"""

__all__: list[str] = []
