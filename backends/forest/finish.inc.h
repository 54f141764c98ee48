// Predictions from margins, for whole batches, with the very steps of package ensemble and hence the same bits. Whoever
// includes this has defined W, V and FINISH, and has the compiler fuse no multiplication with an addition: gcc does not in
// ISO C, clang obeys the pragma.

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

enum { LANES = W / 8 };
typedef double D __attribute__((vector_size(W), may_alias));
typedef float F __attribute__((vector_size(W / 2), may_alias));

// 2^k of a sum of 0x1.8p52 and k.
INLINE D finish_power(D rounded) { return (D)(((V)rounded + 1023) << 52); }

// See Exp in package ensemble.
INLINE D finish_exp(D x) {
	const double round = 0x1.8p52;
	const D most = (D){0} + 710, least = (D){0} - 746;
	V above = (V)(x > most), below = (V)(x < least);
	x = (D)(((V)x & ~above & ~below) | ((V)most & above) | ((V)least & below));
	D k = x * 1.44269504088896340735992468100189214 + round - round;
	D r = x - k * 6.93147180369123816490e-01 - k * 1.90821492927058770002e-10;
	D r2 = r * r, r4 = r2 * r2;
	D a = (1.0 / 2 + r * (1.0 / 6)) + r2 * (1.0 / 24 + r * (1.0 / 120));
	D b = (1.0 / 720 + r * (1.0 / 5040)) + r2 * (1.0 / 40320 + r * (1.0 / 362880));
	D c = (1.0 / 3628800 + r * (1.0 / 39916800)) + r2 * (1.0 / 479001600 + r * (1.0 / 6227020800));
	D p = 1 + (r + r2 * (a + r4 * (b + r4 * c)));
	D half = k * 0.5 + round, rest = k - (half - round) + round;
	return p * finish_power(half) * finish_power(rest);
}

INLINE F finish_exp32(F x) { return __builtin_convertvector(finish_exp(__builtin_convertvector(x, D)), F); }

INLINE F finish_sigmoid32(F x) {
	// 88.7 is XGBoost's own bound.
	D y = __builtin_convertvector(-x, D), most = (D){0} + (double)88.7f;
	V above = (V)(y > most);
	y = (D)(((V)y & ~above) | ((V)most & above));
	return 1 / (__builtin_convertvector(finish_exp(y), F) + 1);
}

INLINE D finish_exp64(D x, double alpha) {
	(void)alpha;
	return finish_exp(x);
}

INLINE D finish_sigmoid64(D x, double alpha) { return 1 / (1 + finish_exp(x * -alpha)); }

// Replaces n values by what f makes of them.
INLINE void finish_all32(float *x, size_t n, F f(F)) {
	for (size_t i = 0; i < n; i += LANES) {
		size_t some = n - i < LANES ? n - i : LANES;
		F v = {0};
		if (some == LANES)
			memcpy(&v, x + i, sizeof v);
		else
			memcpy(&v, x + i, some * sizeof *x);
		v = f(v);
		if (some == LANES)
			memcpy(x + i, &v, sizeof v);
		else
			memcpy(x + i, &v, some * sizeof *x);
	}
}

INLINE void finish_all64(double *x, size_t n, double alpha, D f(D, double)) {
	for (size_t i = 0; i < n; i += LANES) {
		size_t some = n - i < LANES ? n - i : LANES;
		D v = {0};
		if (some == LANES)
			memcpy(&v, x + i, sizeof v);
		else
			memcpy(&v, x + i, some * sizeof *x);
		v = f(v, alpha);
		if (some == LANES)
			memcpy(x + i, &v, sizeof v);
		else
			memcpy(x + i, &v, some * sizeof *x);
	}
}

static void finish_softmax32(float *x, size_t rows, size_t groups) {
	for (size_t r = 0; r < rows; r++) {
		float *row = x + r * groups, top = row[0];
		for (size_t g = 1; g < groups; g++)
			top = row[g] > top || row[g] != row[g] ? row[g] : top;
		for (size_t g = 0; g < groups; g++)
			row[g] -= top;
	}
	finish_all32(x, rows * groups, finish_exp32);
	for (size_t r = 0; r < rows; r++) {
		float *row = x + r * groups;
		double sum = 0;
		for (size_t g = 0; g < groups; g++)
			sum += (double)row[g];
		for (size_t g = 0; g < groups; g++)
			row[g] /= (float)sum;
	}
}

static void finish_softmax64(double *x, size_t rows, size_t groups) {
	for (size_t r = 0; r < rows; r++) {
		double *row = x + r * groups, top = row[0];
		for (size_t g = 1; g < groups; g++)
			top = row[g] > top || row[g] != row[g] ? row[g] : top;
		for (size_t g = 0; g < groups; g++)
			row[g] -= top;
	}
	finish_all64(x, rows * groups, 0, finish_exp64);
	for (size_t r = 0; r < rows; r++) {
		double *row = x + r * groups, sum = 0;
		for (size_t g = 0; g < groups; g++)
			sum += row[g];
		for (size_t g = 0; g < groups; g++)
			row[g] /= sum;
	}
}

void FINISH(const picket_finish *how, void *margins, size_t rows, float *out) {
	size_t n = rows * how->groups;
	switch (how->transform) {
	case PICKET_SIGMOID:
		if (how->wide)
			finish_all64(margins, n, how->alpha, finish_sigmoid64);
		else
			finish_all32(margins, n, finish_sigmoid32);
		break;
	case PICKET_EXPONENTIAL:
		if (how->wide)
			finish_all64(margins, n, 0, finish_exp64);
		else
			finish_all32(margins, n, finish_exp32);
		break;
	case PICKET_SOFTMAX:
		if (how->wide)
			finish_softmax64(margins, rows, how->groups);
		else
			finish_softmax32(margins, rows, how->groups);
		break;
	}
	if (how->wide)
		for (size_t i = 0; i < n; i++)
			out[i] = (float)((const double *)margins)[i];
}
