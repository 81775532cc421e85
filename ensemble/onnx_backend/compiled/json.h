// The JSON of a model's config: reads it into a tree, changes it, writes it. Triton's JSON is well-formed.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

class Json {
 public:
  enum class Kind {
    kObject,
    kArray,
    kString,
    kOther
  };  // other: a number, true, false or null, in its original form

  static Json object() { return Json(Kind::kObject); }
  static Json array() { return Json(Kind::kArray); }
  static Json string(std::string text) { return Json(Kind::kString, std::move(text)); }
  static Json number(long long value) { return Json(Kind::kOther, std::to_string(value)); }

  static Json parse(const std::string& text) {
    const char* at = text.c_str();
    return value(at);
  }

  // The member `name` of an object. If there is none, a value for which exists() is false.
  const Json& operator[](const std::string& name) const {
    static const Json nothing(Kind::kOther);
    for (const auto& [key, member] : members_)
      if (key == name) return member;
    return nothing;
  }

  Json& member(const std::string& name) {
    for (auto& [key, member] : members_)
      if (key == name) return member;
    return members_.emplace_back(name, object()).second;
  }

  const std::vector<Json>& items() const { return items_; }
  std::vector<Json>& items() { return items_; }
  const std::string& text() const { return text_; }  // of a string, or of a number in its original form
  bool is_true() const { return kind_ == Kind::kOther && text_ == "true"; }
  long long integer() const {
    return std::strtoll(text_.c_str(), nullptr, 10);
  }  // protobuf quotes integers of 64 bits
  bool exists() const { return kind_ != Kind::kOther || !text_.empty(); }
  bool empty() const { return items_.empty() && members_.empty(); }

  std::string write() const {
    std::string out;
    if (kind_ == Kind::kString) return quoted(text_);
    if (kind_ == Kind::kOther) return text_;
    for (const Json& item : items_) out += (out.empty() ? "" : ",") + item.write();
    for (const auto& [key, member] : members_)
      out += (out.empty() ? "" : ",") + quoted(key) + ":" + member.write();
    return kind_ == Kind::kArray ? "[" + out + "]" : "{" + out + "}";
  }

 private:
  explicit Json(Kind kind, std::string text = "") : kind_(kind), text_(std::move(text)) {}

  static void skip(const char*& at) {
    while (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r' || *at == ',' || *at == ':') ++at;
  }

  static Json value(const char*& at) {
    skip(at);
    if (*at == '"') return string(quoted_text(at));
    if (*at == '[' || *at == '{') return container(at);
    const char* begin = at;
    while (*at && *at != ',' && *at != ']' && *at != '}' && *at != ' ' && *at != '\n') ++at;
    if (at == begin) throw std::invalid_argument("the config's JSON ends too early");
    return Json(Kind::kOther, std::string(begin, at));
  }

  static Json container(const char*& at) {
    Json made(*at == '[' ? Kind::kArray : Kind::kObject);
    const char end = *at++ == '[' ? ']' : '}';
    for (skip(at); *at != end; skip(at)) {
      if (end == ']') {
        made.items_.push_back(value(at));
      } else {
        std::string key = quoted_text(at);
        made.members_.emplace_back(std::move(key), value(at));
      }
    }
    ++at;
    return made;
  }

  static std::string quoted_text(const char*& at) {
    if (*at != '"') throw std::invalid_argument("the config's JSON ends too early");
    std::string text;
    for (++at; *at && *at != '"'; ++at) text += *at == '\\' ? unescaped(++at) : *at;
    if (!*at) throw std::invalid_argument("the config's JSON ends too early");
    ++at;
    return text;
  }

  // Triton escapes quotes, backslashes and control characters. Everything else is UTF-8.
  static char unescaped(const char*& at) {
    if (*at == 'u') {  // four digits follow
      char code[5] = "";
      for (int i = 0; i < 4 && at[1]; ++i) code[i] = *++at;
      return static_cast<char>(std::strtol(code, nullptr, 16));
    }
    if (!*at) throw std::invalid_argument("the config's JSON ends too early");
    const std::string letters = "bfnrt";
    const size_t place = letters.find(*at);
    return place == letters.npos ? *at : "\b\f\n\r\t"[place];
  }

  static std::string quoted(const std::string& text) {
    std::string out;
    for (const unsigned char c : text) {
      char code[7];
      std::snprintf(code, sizeof code, c < ' ' ? "\\u%04x" : c == '"' || c == '\\' ? "\\%c" : "%c", c);
      out += code;
    }
    return '"' + out + '"';
  }

  Kind kind_;
  std::string text_;
  std::vector<Json> items_;
  std::vector<std::pair<std::string, Json>> members_;
};
