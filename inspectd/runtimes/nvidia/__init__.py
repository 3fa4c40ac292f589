"""What the TensorRT runtime is made of; `inspectd.runtimes.tensorrt` puts it together.

::

    driver    asks libcuda what there is, before any vendor package may crash for want of it
    vendor    tensorrt, pycuda and cuda.bindings behind one door; contexts; errors with their remedy
    loaded    an engine with its buffers, its stream and a step for each batch size
    step      one batch size: copy in, engine, copy out, captured into one CUDA graph
    builder   from an ONNX file to an engine
    engines   the cache of engines and their side-cars
    fake      all three packages without a GPU, for tests of the logic

Nothing here imports more than NumPy and the standard library, so that it runs in the bare
environment of a GPU host (`tests/gpu`).
"""
