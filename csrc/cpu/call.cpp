#include "call.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "kernels.h"
#include "walk.h"

namespace srnn {

// With at least as many streams as threads, each thread takes some streams for itself. With fewer,
// all threads form one team.
long Call::run(long from, int threads, const Job& job) const {
  Crew crew(threads);
  const int teams = streams.count >= crew.size() ? crew.size() : 1;
  const int size = crew.size() / teams;
  std::vector<std::unique_ptr<TeamArrays>> arrays;
  std::vector<std::unique_ptr<Barrier>> barriers;
  std::vector<std::unique_ptr<Walk>> walks;
  for (int team = 0; team < teams; ++team) {
    const int first = static_cast<int>(long{streams.count} * team / teams);
    const int last = static_cast<int>(long{streams.count} * (team + 1) / teams);
    const StreamSlice slice(streams, model.m, first, last - first, from);
    arrays.push_back(std::make_unique<TeamArrays>(model, slice.count, steps_at_once));
    barriers.push_back(std::make_unique<Barrier>(size));
    for (int rank = 0; rank < size; ++rank) {
      const Member member{rank, size, barriers.back().get()};
      walks.push_back(
          std::make_unique<Walk>(kernels, model, member, *arrays.back(), slice, steps_at_once));
    }
  }
  std::vector<long> made(crew.size());
  crew.run([&](int thread) {
    kernels.enter();
    made[thread] = job(*walks[thread]);
    kernels.leave();
  });
  const long least = *std::min_element(made.begin(), made.end());
  return least < 0 ? -1 : from + least;
}

}  // namespace srnn
