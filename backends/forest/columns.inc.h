// Columns of up to 64 rows, one after the other in memory, each with room for 64 values: gathering them from their rows
// 16 at a time costs more than turning squares of four by four.

#define COLUMNS

static inline void columns(const float *in, uint32_t width, uint32_t rows, float *to) {
	for (uint32_t r = 0; r < rows; r += 4) {
		const float *x = in + (size_t)r * width;
		uint32_t c = 0, last = rows - r < 4 ? rows - r : 4;
		if (last == 4)
			for (; c + 4 <= width; c += 4) {
				__m128 a = _mm_loadu_ps(x + c), b = _mm_loadu_ps(x + width + c);
				__m128 d = _mm_loadu_ps(x + 2 * (size_t)width + c), e = _mm_loadu_ps(x + 3 * (size_t)width + c);
				_MM_TRANSPOSE4_PS(a, b, d, e);
				_mm_store_ps(to + (size_t)c * 64 + r, a);
				_mm_store_ps(to + ((size_t)c + 1) * 64 + r, b);
				_mm_store_ps(to + ((size_t)c + 2) * 64 + r, d);
				_mm_store_ps(to + ((size_t)c + 3) * 64 + r, e);
			}
		for (; c < width; c++)
			for (uint32_t i = 0; i < last; i++)
				to[(size_t)c * 64 + r + i] = x[(size_t)i * width + c];
	}
}
