/* The CUDA device: opened once, memory, copies. See device.h. */
#include <cuda_runtime.h>

#include "device.h"

static struct err *errors;

static int check(cudaError_t status, const char *what)
{
    return status == cudaSuccess ? 0 : err_set(errors, "CUDA device: cannot %s: %s", what, cudaGetErrorString(status));
}

int device_open(struct err *e)
{
    errors = e;
    return check(cudaSetDevice(0), "open device 0") ? -1 : check(cudaFree(0), "start device 0");
}

void device_close(void) { cudaDeviceSynchronize(); }

void *device_alloc(size_t bytes)
{
    void *p = NULL;
    return check(cudaMalloc(&p, bytes ? bytes : 1), "allocate memory") ? NULL : p;
}

void device_free(void *p) { check(cudaFree(p), "free memory"); }
void device_put(void *device, const void *host, size_t bytes) { check(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice), "copy to the device"); }
void device_get(void *host, const void *device, size_t bytes) { check(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost), "copy from the device"); }
