// Threads that use the cache of the run-time library as its operators do, while sessions come and go.
//
// Usage: stress_cache TURNS TABLE.nnr TENSOR.nnr ...   All are float32. Prints the counters; fails on any wrong value.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "blocks.h"
#include "cache.h"
#include "decoding.h"
#include "levels.h"
#include "recoded.h"
#include "stats.h"

using namespace nnc;

namespace {

constexpr int kFloat = 1;
constexpr std::size_t kAhead = 2;

[[noreturn]] void quit(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::exit(1);
}

struct Coded {
  std::vector<std::uint8_t> payload;
  SingleTensor tensor;
  std::vector<float> values;

  explicit Coded(const char* path) {
    std::ifstream stream(path, std::ios::binary);
    payload.assign(std::istreambuf_iterator<char>(stream), {});
    if (!tensor.open(payload.data(), payload.size(), Limits{}).ok()) quit("cannot open a payload");
    values.resize(tensor.info().elements);
    if (!tensor.decode(DType::float32, values.data()).ok()) quit("cannot decode a payload");
  }

  Payload bytes() const { return {payload.data(), payload.size()}; }

  CacheSource source() const {
    CacheSource made;
    made.payload = payload.data();
    made.payload_bytes = payload.size();
    made.element = kFloat;
    made.bytes = values.size() * sizeof(float);
    made.element_bytes = sizeof(float);
    made.rows = tensor.rows();
    return made;
  }
};

// One tensor of one session.
struct User {
  const Coded* coded;
  CacheEntry* entry;
  bool recode;
};

// True if the claim ended with the tensor in the cache.
bool decode(CacheEntry& claim, bool asked) {
  const auto& user = *static_cast<const User*>(claim.owner);
  const Target target{claim.block, claim.level_bytes};
  const Outcome outcome = decode_tensor(user.coded->tensor, DType::float32, target, nullptr, nullptr, 1,
                                        user.coded->bytes(), user.recode ? &claim.recoded : nullptr);
  if (outcome.too_wide) Cache::instance().widen(claim);
  Cache::instance().finish(claim, outcome.ok(), asked);
  return outcome.ok();
}

void use(const User& user) {
  Cache& cache = Cache::instance();
  const Cache::Use found = cache.use(*user.entry, kAhead);
  for (CacheEntry* next : found.ahead) decode(*next, false);
  // Without a pin an operator decodes to where the tensor is used.
  if (!found.ready && !(found.claimed && decode(*user.entry, true))) return;
  const std::vector<float>& expected = user.coded->values;
  std::vector<float> values(expected.size());
  if (user.entry->level_bytes == 0) {
    std::memcpy(values.data(), user.entry->block, values.size() * sizeof(float));
  } else {
    restore_levels(user.coded->tensor.reconstruction(DType::float32), values.size(), user.entry->level_bytes,
                   user.entry->block, 0, values.size(), values.data());
    ++stats().cache_restores;
  }
  cache.unpin(*user.entry);
  if (std::memcmp(values.data(), expected.data(), values.size() * sizeof(float)) != 0) quit("a wrong value");
}

void look_up(const User& user, std::mt19937& random) {
  const SingleTensor& table = user.coded->tensor;
  const std::size_t cols = table.cols();
  std::vector<std::uint64_t> rows(24);
  for (std::uint64_t& row : rows) row = random() % (random() % table.rows() + 1);
  std::vector<float> out(rows.size() * cols);
  auto* const bytes = reinterpret_cast<std::uint8_t*>(out.data());
  std::vector<std::size_t> missing;
  missing.reserve(rows.size());
  user.entry->rows->take(rows, bytes, missing);
  stats().row_misses += missing.size();
  const auto form = user.recode ? recoded_form(table, DType::float32, nullptr, nullptr, 1, user.coded->bytes(),
                                               Recoded::kSmallBlock, user.entry->recoded)
                                : nullptr;
  if (form != nullptr) {
    Recoded::Cursor cursor(*form, table.reconstruction(DType::float32));
    for (std::size_t i : missing) cursor.restore(rows[i] * cols, cols, out.data() + i * cols);
    user.entry->rows->keep(rows, missing, bytes);
    missing.clear();
  }
  std::vector<float> block(table.block_height() * cols);
  for (std::size_t i : missing) {
    const std::uint64_t height = table.block_height();
    if (!table.decode_block_rows(rows[i] / height, 1, DType::float32, block.data()).ok()) quit("no block row");
    std::memcpy(out.data() + i * cols, block.data() + rows[i] % height * cols, cols * sizeof(float));
  }
  user.entry->rows->keep(rows, missing, bytes);
  for (std::size_t i = 0; i < rows.size(); ++i)
    if (std::memcmp(out.data() + i * cols, user.coded->values.data() + rows[i] * cols, cols * sizeof(float)) != 0)
      quit("a wrong row");
}

class Session {
 public:
  Session(const std::vector<std::unique_ptr<Coded>>& all, std::size_t budget, bool levels, bool recode) {
    users_.reserve(all.size());
    for (const auto& coded : all) {
      users_.push_back({coded.get(), nullptr, recode});
      User& user = users_.back();
      user.entry = &Cache::instance().add(coded->source(),
                                          {&user, coded->payload.data(), budget, coded == all.front(), levels});
    }
  }
  ~Session() {
    for (User& user : users_) Cache::instance().remove(*user.entry, &user);
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void run(std::mt19937& random) const {
    look_up(users_.front(), random);
    for (std::size_t i = 1; i < users_.size(); ++i) use(users_[i]);
  }

 private:
  std::vector<User> users_;
};

}  // namespace

int main(int count, char** arguments) {
  if (count < 4) quit("usage: stress_cache TURNS TABLE.nnr TENSOR.nnr ...");
  const int turns = std::atoi(arguments[1]);
  std::vector<std::unique_ptr<Coded>> all;
  std::size_t bytes = 0;
  for (int i = 2; i < count; ++i) {
    all.push_back(std::make_unique<Coded>(arguments[i]));
    if (i > 2) bytes += all.back()->values.size() * sizeof(float);
  }
  {
    const Session shared(all, bytes / 2, true, true);
    std::vector<std::thread> threads;
    for (unsigned number = 0; number < 4; ++number)
      threads.emplace_back([&, number] {
        std::mt19937 random(number);
        for (int turn = 0; turn < turns; ++turn) {
          shared.run(random);
          if (number == 0) {
            const Session other(all, bytes * (random() % 5) / 4 + 1, random() % 2 != 0, random() % 2 != 0);
            other.run(random);
          }
        }
      });
    for (std::thread& thread : threads) thread.join();
  }
  for (std::size_t i = 0; onnx_nnc_stat_name(i) != nullptr; ++i)
    std::printf("%s %llu\n", onnx_nnc_stat_name(i), static_cast<unsigned long long>(onnx_nnc_stat_value(i)));
  return 0;
}
