#include "message.h"

namespace nnc {
namespace {

const char* code_of(Code code) {
  switch (code) {
    case Code::corrupt: return "NNC-E101";
    case Code::truncated: return "NNC-E102";
    case Code::unsupported: return "NNC-E103";
    case Code::invalid_argument: return "NNC-E104";
    case Code::limit_exceeded: return "NNC-E105";
    case Code::out_of_memory: return kCodeMemory;
    case Code::ok: break;
  }
  return "NNC-E100";
}

const char* meaning_of(Code code) {
  switch (code) {
    case Code::corrupt: return "the payload is corrupt";
    case Code::truncated: return "the payload ends early";
    case Code::unsupported: return "the payload needs a feature that this version does not decode";
    case Code::limit_exceeded: return "the payload is above a limit";
    case Code::out_of_memory: return "not enough memory";
    case Code::invalid_argument:
    case Code::ok: break;
  }
  return "the payload cannot be decoded";
}

}  // namespace

ort::Status* fail(const ort::Api* api, const char* code, const std::string& where, const std::string& what) {
  const std::string text = std::string(code) + ": " + (where.empty() ? "" : where + ": ") + what;
  return ort::CreateStatus::call(api, ort::kFail, text.c_str());
}

ort::Status* fail(const ort::Api* api, const std::string& where, const Status& status) {
  return fail(api, code_of(status.code), where,
              std::string(meaning_of(status.code)) + " (" + status.what + ", bit " +
                  std::to_string(status.bit_offset) + ")");
}

}  // namespace nnc
