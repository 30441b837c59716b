"""What objects of every kind share: names, codes, equipment, the end of writing, common checks.

`naming` derives UIDs, series numbers and descriptions; `texts` and `coding` bring texts, times and
codes into DICOM's form; `equipment` says who made an object; `finishing` (`finish`, `as_file`) adds
what is the same for every kind and makes the file. `checking` holds the checks of every kind, and
`validator` has dciodvfy judge a file. What only one kind needs lies in that kind's folder.
"""
