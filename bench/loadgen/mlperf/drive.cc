// Drives a lane through the C client with MLPerf's own load generator and prints the figures as JSON. bench/loadgen/main.go has it take turns with the
// suite's generator.
//
// usage: drive SOCKET MODEL FILE FEATURES SCENARIO SECONDS EXPECTED DIR
//
// FILE has rows of FEATURES float32 numbers, each followed by the answer that the reference gives. SCENARIO is SingleStream, Offline, or Loop, which
// is SingleStream without the load generator. EXPECTED is the samples a second of scenario Offline, and DIR takes loadgen's logs. A sample is one row
// in SingleStream and 512 rows in Offline, as many as a request has there; the recommendation model of MLPerf Inference has samples of several hundred
// rows for the same reason. Every answer is compared while it is timed.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "loadgen.h"
#include "query_sample.h"
#include "query_sample_library.h"
#include "system_under_test.h"
#include "test_settings.h"

#include "picket_lane.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kCallers = 4;             // of scenario Offline, each with a lane
constexpr size_t kBatch = 512;          // rows of a request there
constexpr double kTolerance = 1e-6;     // of bench/protocols
constexpr auto kWarmUp = std::chrono::milliseconds(30);

[[noreturn]] void Fail(const std::string &why)
{
	std::fprintf(stderr, "drive: %s\n", why.c_str());
	std::exit(1);
}

struct Rows {
	size_t count = 0, features = 0;
	std::vector<float> values, answers;

	Rows(const std::string &path, size_t features_) : features(features_)
	{
		std::ifstream f(path, std::ios::binary);
		std::vector<float> row(features + 1);
		while (f.read(reinterpret_cast<char *>(row.data()), static_cast<std::streamsize>(row.size() * sizeof(float)))) {
			values.insert(values.end(), row.begin(), row.end() - 1);
			answers.push_back(row.back());
			count++;
		}
		if (count <= kBatch)
			Fail(path + " has too few rows");
	}
};

// One caller with a lane of its own.
class Caller {
public:
	Caller(const std::string &socket, const std::string &model, const Rows &rows, size_t batch)
		: rows_(rows), batch_(batch), answers_(batch), lane_(picket_lane_new(socket.c_str()))
	{
		if (lane_ == nullptr || picket_lane_open(lane_, model.c_str(), 10000, &model_) != PICKET_LANE_OK)
			Fail(lane_ == nullptr ? "the socket's path is too long" : picket_lane_error(lane_));
	}
	~Caller() { picket_lane_free(lane_); }
	Caller(const Caller &) = delete;
	Caller &operator=(const Caller &) = delete;

	void Ask(size_t first)
	{
		const void *in[] = {rows_.values.data() + first * rows_.features};
		void *out[] = {answers_.data()};
		if (picket_lane_predict(lane_, &model_, static_cast<uint32_t>(batch_), in, out, -1) != PICKET_LANE_OK)
			Fail(picket_lane_error(lane_));
	}

	void Check(size_t first) const
	{
		for (size_t i = 0; i < batch_; i++)
			if (!(std::fabs(answers_[i] - rows_.answers[first + i]) <= kTolerance))
				Fail("row " + std::to_string(first + i) + " is answered with " + std::to_string(answers_[i]) + ", the reference has " + std::to_string(rows_.answers[first + i]));
	}

	size_t Choices() const { return rows_.count - batch_ + 1; }

private:
	const Rows &rows_;
	const size_t batch_;
	std::vector<float> answers_;
	struct picket_lane *lane_;
	struct picket_lane_model model_ = {};
};

using Callers = std::vector<std::unique_ptr<Caller>>;

void WarmUp(Callers &callers)
{
	std::vector<std::thread> threads;
	for (auto &c : callers)
		threads.emplace_back([&c] {
			for (auto end = Clock::now() + kWarmUp; Clock::now() < end;)
				c->Ask(0);
		});
	for (auto &t : threads)
		t.join();
}

class Library : public mlperf::QuerySampleLibrary {
public:
	explicit Library(size_t samples) : samples_(samples) {}
	const std::string &Name() override { return name_; }
	size_t TotalSampleCount() override { return samples_; }
	size_t PerformanceSampleCount() override { return samples_; }
	void LoadSamplesToRam(const std::vector<mlperf::QuerySampleIndex> &) override {} // they are there
	void UnloadSamplesFromRam(const std::vector<mlperf::QuerySampleIndex> &) override {}

private:
	const std::string name_ = "rows";
	const size_t samples_;
};

void Complete(mlperf::ResponseId id)
{
	mlperf::QuerySampleResponse done(id, 0, 0);
	mlperf::QuerySamplesComplete(&done, 1);
}

// Answers each sample before it returns: the load generator asks for one at a time.
class OneByOne : public mlperf::SystemUnderTest {
public:
	explicit OneByOne(Caller &caller) : caller_(caller) {}
	const std::string &Name() override { return name_; }
	void IssueQuery(const std::vector<mlperf::QuerySample> &samples) override
	{
		for (const auto &s : samples) {
			caller_.Ask(s.index);
			Complete(s.id);
			caller_.Check(s.index);
		}
	}
	void FlushQueries() override {}

private:
	const std::string name_ = "picket";
	Caller &caller_;
};

// Has all callers take sample after sample: the load generator asks for all of them at once.
class AllAtOnce : public mlperf::SystemUnderTest {
public:
	explicit AllAtOnce(Callers &callers) : callers_(callers) {}
	const std::string &Name() override { return name_; }
	void IssueQuery(const std::vector<mlperf::QuerySample> &samples) override
	{
		std::atomic<size_t> next{0};
		std::vector<std::thread> threads;
		for (auto &c : callers_)
			threads.emplace_back([&] {
				for (size_t i; (i = next++) < samples.size();) {
					c->Ask(samples[i].index);
					Complete(samples[i].id);
					c->Check(samples[i].index);
				}
			});
		for (auto &t : threads)
			t.join();
	}
	void FlushQueries() override {}

private:
	const std::string name_ = "picket";
	Callers &callers_;
};

// The number after "name :" of the load generator's summary.
double Figure(const std::string &path, const std::string &name)
{
	std::ifstream f(path);
	for (std::string line; std::getline(f, line);)
		if (line.compare(0, name.size(), name) == 0 && line.find_first_not_of(' ', name.size()) == line.find(':'))
			return std::atof(line.c_str() + line.find(':') + 1);
	Fail("the load generator's summary has no " + name);
}

void Drive(Callers &callers, bool offline, double seconds, double expected, const std::string &dir)
{
	mlperf::TestSettings settings;
	settings.scenario = offline ? mlperf::TestScenario::Offline : mlperf::TestScenario::SingleStream;
	settings.mode = mlperf::TestMode::PerformanceOnly;
	settings.min_duration_ms = static_cast<uint64_t>(1000 * seconds);
	settings.min_query_count = offline ? 1 : 64;
	settings.single_stream_expected_latency_ns = 20000;
	settings.offline_expected_qps = expected;
	mlperf::LogSettings log;
	log.log_output.outdir = dir;
	log.enable_trace = false;
	Library library(callers[0]->Choices());
	OneByOne one(*callers[0]);
	AllAtOnce all(callers);
	mlperf::SystemUnderTest *sut = offline ? static_cast<mlperf::SystemUnderTest *>(&all) : &one;
	mlperf::StartTest(sut, &library, settings, log);
	const std::string summary = dir + "/mlperf_log_summary.txt";
	if (offline)
		std::printf("{\"rows_per_s\": %.6g}\n", kBatch * Figure(summary, "Samples per second"));
	else
		std::printf("{\"p50_ns\": %.0f, \"p90_ns\": %.0f, \"between_ns\": %.0f}\n", Figure(summary, "50.00 percentile latency (ns)"),
			Figure(summary, "90.00 percentile latency (ns)"),
			1e9 / Figure(summary, "QPS w/ loadgen overhead") - 1e9 / Figure(summary, "QPS w/o loadgen overhead"));
}

// Asks one row after the other, as the load generator does in SingleStream, and does nothing else between an answer and the next request: what the
// generator's own work there adds to a request, by the caches of a processor that it shares with the server, is between this and SingleStream.
void Loop(Caller &caller, double seconds)
{
	std::mt19937_64 random(1);
	std::uniform_int_distribution<size_t> choose(0, caller.Choices() - 1);
	std::vector<int64_t> took;
	took.reserve(1 << 20);
	const auto begin = Clock::now();
	for (;;) {
		const size_t first = choose(random);
		const auto sent = Clock::now();
		if (sent - begin >= std::chrono::duration<double>(seconds))
			break;
		caller.Ask(first);
		took.push_back(std::chrono::nanoseconds(Clock::now() - sent).count());
		caller.Check(first);
	}
	const double all = std::chrono::duration<double, std::nano>(Clock::now() - begin).count(), n = static_cast<double>(took.size());
	if (took.empty())
		Fail("nothing was answered");
	double asking = 0;
	for (const int64_t t : took)
		asking += static_cast<double>(t);
	std::sort(took.begin(), took.end());
	std::printf("{\"p50_ns\": %.0f, \"p90_ns\": %.0f, \"between_ns\": %.0f}\n", static_cast<double>(took[took.size() / 2]),
		static_cast<double>(took[took.size() * 9 / 10]), (all - asking) / n);
}

} // namespace

int main(int argc, char **argv)
{
	if (argc != 9)
		Fail("usage: drive SOCKET MODEL FILE FEATURES SCENARIO SECONDS EXPECTED DIR");
	const std::string socket = argv[1], model = argv[2], file = argv[3], scenario = argv[5], dir = argv[8];
	const Rows rows(file, static_cast<size_t>(std::atoi(argv[4])));
	const double seconds = std::atof(argv[6]), expected = std::atof(argv[7]);
	const bool offline = scenario == "Offline", loop = scenario == "Loop";
	if (!offline && !loop && scenario != "SingleStream")
		Fail("there is no scenario " + scenario);
	Callers callers;
	for (int i = 0; i < (offline ? kCallers : 1); i++)
		callers.push_back(std::make_unique<Caller>(socket, model, rows, offline ? kBatch : 1));
	WarmUp(callers);
	if (loop)
		Loop(*callers[0], seconds);
	else
		Drive(callers, offline, seconds, expected, dir);
	return 0;
}
