# What the fake NVRTC runs: a "cubin" is the options and the source. Fails on a source that says so.
if grep -n "#error" "$1/source" | sed 's/^\([0-9]*\):#error \(.*\)/kernel.cuh(\1): error: \2/' | grep . >&2; then exit 1; fi
cat "$1/options" "$1/source" > "$1/cubin"
