//go:build cgo && linux

#include "peaks.h"

#include <time.h>

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

// The loops, for registers of type V. The sums are used by an empty assembler instruction, without which the compiler would see
// that nobody needs them. Eight sums and sixteen comparisons hide how long each takes.
#define LOOPS(NAME, V, TARGET, CONSTRAINT)                                                                             \
  TARGET static int64_t read_##NAME(const void *data, int64_t bytes, int64_t times) {                                 \
    V s[8] = {{0}};                                                                                                    \
    int64_t start = now();                                                                                             \
    for (int64_t n = 0; n < times; n++) {                                                                              \
      const V *at = data;                                                                                              \
      for (const V *end = at + bytes / (int64_t)sizeof(V); at < end; at += 16)                                         \
        for (int i = 0; i < 16; i++) s[i % 8] ^= at[i];                                                                \
      __asm__ volatile("" : "+" CONSTRAINT(s[0]), "+" CONSTRAINT(s[1]), "+" CONSTRAINT(s[2]), "+" CONSTRAINT(s[3]),    \
                       "+" CONSTRAINT(s[4]), "+" CONSTRAINT(s[5]), "+" CONSTRAINT(s[6]), "+" CONSTRAINT(s[7])::"memory"); \
    }                                                                                                                  \
    return now() - start;                                                                                              \
  }                                                                                                                    \
  TARGET static int64_t compare_##NAME(int64_t times) {                                                                \
    V a[4], m[4];                                                                                                      \
    for (int i = 0; i < 4; i++) a[i] = (V){0} + (char)(i + 1);                                                         \
    int64_t start = now();                                                                                             \
    for (int64_t n = 0; n < times; n++)                                                                                \
      for (int i = 0; i < 4; i++) {                                                                                    \
        for (int k = 0; k < 4; k++) {                                                                                  \
          m[k] = (V)(a[i] > a[k]);                                                                                     \
        }                                                                                                              \
        __asm__ volatile("" : "+" CONSTRAINT(m[0]), "+" CONSTRAINT(m[1]), "+" CONSTRAINT(m[2]), "+" CONSTRAINT(m[3])); \
        __asm__ volatile("" : "+" CONSTRAINT(a[0]), "+" CONSTRAINT(a[1]), "+" CONSTRAINT(a[2]), "+" CONSTRAINT(a[3])); \
      }                                                                                                                \
    return now() - start;                                                                                              \
  }

typedef char v16 __attribute__((vector_size(16)));
typedef char v32 __attribute__((vector_size(32)));

#ifdef __x86_64__
LOOPS(16, v16, , "x")
LOOPS(32, v32, __attribute__((target("avx2"))), "x")

#include <immintrin.h>

// A comparison in AVX-512 gives a mask, not a register.
__attribute__((target("avx512bw"))) static int64_t read_64(const void *data, int64_t bytes, int64_t times) {
  __m512i s[8];
  for (int i = 0; i < 8; i++) s[i] = _mm512_setzero_si512();
  int64_t start = now();
  for (int64_t n = 0; n < times; n++) {
    const __m512i *at = data;
    for (const __m512i *end = at + bytes / 64; at < end; at += 16)
      for (int i = 0; i < 16; i++) s[i % 8] = _mm512_xor_si512(s[i % 8], _mm512_load_si512(at + i));
    __asm__ volatile("" : "+v"(s[0]), "+v"(s[1]), "+v"(s[2]), "+v"(s[3]), "+v"(s[4]), "+v"(s[5]), "+v"(s[6]), "+v"(s[7])::"memory");
  }
  return now() - start;
}

__attribute__((target("avx512bw"))) static int64_t compare_64(int64_t times) {
  __m512i a[4];
  for (int i = 0; i < 4; i++) a[i] = _mm512_set1_epi8((char)(i + 1));
  int64_t start = now();
  for (int64_t n = 0; n < times; n++)
    for (int i = 0; i < 4; i++) {
      __mmask64 m[4];
      for (int k = 0; k < 4; k++) m[k] = _mm512_cmpgt_epi8_mask(a[i], a[k]);
      __asm__ volatile("" : "+k"(m[0]), "+k"(m[1]), "+k"(m[2]), "+k"(m[3]));
      __asm__ volatile("" : "+v"(a[0]), "+v"(a[1]), "+v"(a[2]), "+v"(a[3]));
    }
  return now() - start;
}

int peaks_width(int most) {
  __builtin_cpu_init();
  if (most >= 64 && __builtin_cpu_supports("avx512bw")) return 64;
  if (most >= 32 && __builtin_cpu_supports("avx2")) return 32;
  return 16;
}

int64_t peaks_read(const void *data, int64_t bytes, int64_t times, int width) {
  if (width == 64) return read_64(data, bytes, times);
  if (width == 32) return read_32(data, bytes, times);
  return read_16(data, bytes, times);
}

int64_t peaks_compare(int64_t times, int width) {
  if (width == 64) return compare_64(times);
  if (width == 32) return compare_32(times);
  return compare_16(times);
}

#else
#ifdef __aarch64__
LOOPS(16, v16, , "w")
#else
LOOPS(16, v16, , "r")
#endif

int peaks_width(int most) {
  (void)most;
  return 16;
}

int64_t peaks_read(const void *data, int64_t bytes, int64_t times, int width) {
  (void)width;
  return read_16(data, bytes, times);
}

int64_t peaks_compare(int64_t times, int width) {
  (void)width;
  return compare_16(times);
}
#endif
