// Allocators that count, for the test that hands them to the real libdlr.
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

atomic_int allocator_mallocs, allocator_aligned, allocator_frees, allocator_bad_alignment;

void *allocator_malloc(size_t size) {
	allocator_mallocs++;
	return malloc(size);
}

void *allocator_memalign(size_t alignment, size_t size) {
	allocator_aligned++;
	if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > 4096)
		allocator_bad_alignment++;
	void *p = NULL;
	return posix_memalign(&p, alignment < sizeof(void *) ? sizeof(void *) : alignment, size) == 0 ? p : NULL;
}

void allocator_free(void *p) {
	allocator_frees++;
	free(p);
}
