"""Is a result skill or luck?"""
