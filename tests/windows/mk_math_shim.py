# Wine 8's ucrtbase has no C99 complex functions, which numpy imports: a DLL of ours serves them, and numpy's imports are renamed to it.
import glob
import subprocess
import sys

import pefile

home = sys.argv[1]
fs = [f for f in glob.glob(home + "/win/site-packages/numpy/**/*.pyd", recursive=True)]
need = set()
who = []
for f in fs:
    pe = pefile.PE(f, fast_load=True)
    pe.parse_data_directories([pefile.DIRECTORY_ENTRY["IMAGE_DIRECTORY_ENTRY_IMPORT"]])
    for e in pe.DIRECTORY_ENTRY_IMPORT:
        if e.dll.decode().lower() == "api-ms-win-crt-math-l1-1-0.dll":
            names = {i.name.decode() for i in e.imports}
            need |= names
            who.append(f)
d = ["ccos", "ccosh", "cexp", "csin", "csinh", "ctan", "ctanh"]
mine = {}
c = """#include <complex.h>
typedef struct {double r,i;} D; typedef struct {float r,i;} F;
#define IN(z) (__builtin_complex((z).r,(z).i))
static D od(double _Complex z){D d={__real__ z,__imag__ z};return d;}
static F of(float _Complex z){F d={__real__ z,__imag__ z};return d;}
"""
for n in d:
    c += f"D x_{n}(D z){{return od({n}(IN(z)));}}\nF x_{n}f(F z){{return of({n}f(IN(z)));}}\n"
    mine[n] = mine[n + "l"] = "x_" + n
    mine[n + "f"] = f"x_{n}f"
c += "D x_cpow(D a,D b){return od(cpow(IN(a),IN(b)));}\nF x_cpowf(F a,F b){return of(cpowf(IN(a),IN(b)));}\n"
mine["cpow"] = mine["cpowl"] = "x_cpow"
mine["cpowf"] = "x_cpowf"
for n, e in (("cabs", "cabs(IN(z))"), ("carg", "carg(IN(z))"), ("cimag", "z.i"), ("creal", "z.r")):
    c += f"double x_{n}(D z){{return {e};}}\n" + f"float x_{n}f(F z){{return {e.replace('(IN', 'f(IN')};}}\n"
    mine[n] = mine[n + "l"] = "x_" + n
    mine[n + "f"] = f"x_{n}f"
open(home + "/shim/s.c", "w").write(c)
with open(home + "/shim/s.def", "w") as o:
    o.write("LIBRARY xpi-ms-win-crt-math-l1-1-0.dll\nEXPORTS\n")
    for n in sorted(need):
        o.write(f" {n} = {mine[n]}\n" if n in mine else f" {n} = ucrtbase.{n}\n")
subprocess.check_call(
    [
        "x86_64-w64-mingw32-gcc-posix",
        "-O2",
        "-shared",
        "-static-libgcc",
        "-o",
        home + "/win/cp313/xpi-ms-win-crt-math-l1-1-0.dll",
        home + "/shim/s.c",
        home + "/shim/s.def",
    ]
)
for f in set(who):
    b = open(f, "rb").read()
    n = b.replace(b"api-ms-win-crt-math-l1-1-0.dll", b"xpi-ms-win-crt-math-l1-1-0.dll")
    if n != b:
        open(f, "wb").write(n)
print(len(need), len(who), sorted(need - set(mine))[:50])
