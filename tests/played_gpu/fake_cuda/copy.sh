# The fake NVRTC runs this compiler: the "cubin" is the options and the source. It fails on an #error.
if grep -n "#error" "$1/source" | sed 's/^\([0-9]*\):#error \(.*\)/kernel.cuh(\1): error: \2/' | grep . >&2; then exit 1; fi
cat "$1/options" "$1/source" > "$1/cubin"
