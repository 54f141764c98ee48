// oneDAL's gradient boosted trees behind three functions of C: its own interface is C++ templates. prepare.sh compiles this file against
// Intel's headers, and bench/native/onedal.c calls it in the process of a benchmark.
//
// A model is what daal4py makes of XGBoost's or LightGBM's, as oneDAL serializes it (prepare.py, form onedal), so that what answers is
// what Intel's own converter built. Rows are wrapped and not copied, and the answers' table is kept from call to call.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <vector>

#include "daal.h"

namespace {

namespace gbt = daal::algorithms::gbt::classification;
using Table = daal::data_management::HomogenNumericTable<float>;
using Dictionary = daal::data_management::DictionaryIface;

// How many threads oneDAL takes is a setting of the whole process; a call changes it where the last was for another forest.
std::atomic<int> threads_now{0};

class Forest {
public:
	Forest(const char *path, size_t features, size_t outputs, int threads)
		: features_(features), classes_(outputs == 1 ? 2 : outputs), outputs_(outputs), threads_(threads), batch_(classes_)
	{
		std::ifstream file(path, std::ios::binary);
		std::vector<daal::byte> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
		if (bytes.empty())
			throw std::runtime_error("the model's file cannot be read");
		daal::data_management::OutputDataArchive archive(bytes.data(), bytes.size());
		auto model = daal::services::dynamicPointerCast<gbt::Model>(archive.getAsSharedPtr());
		if (!model)
			throw std::runtime_error("the file holds no gradient boosted trees of oneDAL");
		if (model->getNumberOfFeatures() != features)
			throw std::runtime_error("the model has another number of features");
		batch_.input.set(daal::algorithms::classifier::prediction::model, model);
		batch_.parameter().resultsToEvaluate = daal::algorithms::classifier::computeClassProbabilities;
	}

	// Predict writes the probabilities of count rows, and returns the nanoseconds that oneDAL took; what picks the second of two out is outside
	// the time.
	int64_t Predict(const float *rows, size_t count, float *out)
	{
		if (threads_now.exchange(threads_) != threads_)
			daal::services::Environment::getInstance()->setNumberOfThreads(static_cast<size_t>(threads_));
		const auto start = std::chrono::steady_clock::now();
		// A table could be written to; oneDAL does not write to its input.
		auto in = Table::create(Dictionary::equal, const_cast<float *>(rows), features_, count);
		if (!answers_ || answers_->getNumberOfRows() != count) {
			answers_ = Table::create(Dictionary::equal, classes_, count, daal::data_management::NumericTableIface::doAllocate);
			gbt::prediction::ResultPtr result(new gbt::prediction::Result);
			result->set(gbt::prediction::probabilities, answers_);
			batch_.setResult(result);
		}
		batch_.input.set(daal::algorithms::classifier::prediction::data, in);
		daal::services::Status status = batch_.compute();
		const auto took = std::chrono::steady_clock::now() - start;
		if (!status)
			throw std::runtime_error(status.getDescription());
		const float *all = answers_->getArray();
		for (size_t i = 0; i < count; i++)
			for (size_t k = 0; k < outputs_; k++)
				out[i * outputs_ + k] = all[i * classes_ + classes_ - outputs_ + k];
		return std::chrono::duration_cast<std::chrono::nanoseconds>(took).count();
	}

private:
	const size_t features_, classes_, outputs_;
	const int threads_;
	gbt::prediction::Batch<float> batch_;
	daal::services::SharedPtr<Table> answers_;
};

// Guarded is what F returns, or otherwise with a sentence in problem where it throws.
template <typename F, typename T>
T Guarded(char *problem, size_t size, T otherwise, F &&act)
{
	try {
		return act();
	} catch (const std::exception &e) {
		std::snprintf(problem, size, "%s", e.what());
	} catch (...) {
		std::snprintf(problem, size, "oneDAL threw what is no exception of the standard library");
	}
	return otherwise;
}

} // namespace

extern "C" {

// picket_onedal_open opens the model in a file, for so many threads. It returns NULL after an error, which it writes to problem, of size
// bytes; the caller calls picket_onedal_close.
void *picket_onedal_open(const char *model, int64_t features, int64_t outputs, int threads, char *problem, size_t size)
{
	return Guarded(problem, size, static_cast<void *>(nullptr),
		       [&]() -> void * { return new Forest(model, static_cast<size_t>(features), static_cast<size_t>(outputs), threads); });
}

// picket_onedal_predict writes the probabilities of rows, row-major, to out, and returns the nanoseconds that took, or -1 after an error.
int64_t picket_onedal_predict(void *forest, const float *rows, int64_t count, float *out, char *problem, size_t size)
{
	return Guarded(problem, size, static_cast<int64_t>(-1), [&] { return static_cast<Forest *>(forest)->Predict(rows, static_cast<size_t>(count), out); });
}

void picket_onedal_close(void *forest) { delete static_cast<Forest *>(forest); }
}
