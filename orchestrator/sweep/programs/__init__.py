"""Programs that compute cells: the keys of a sweep file that describe a program, and the program's files."""
