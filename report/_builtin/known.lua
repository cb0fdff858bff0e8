-- The list of constructs.yaml, and how an element is held against it: as "Element",
-- "Element .class", "Element #kind-of-id" and "Element attribute=".

local problem = require("common").problem
local stringify = pandoc.utils.stringify
local M = {}

-- What vitrail.report.constructs wrote: `marks` (a set) and `front_matter` (a list).
local function read_list()
  local file = assert(io.open("constructs.json", "r"))
  local list = pandoc.json.decode(file:read("a"), false)
  file:close()
  return list
end
local list = read_list()
M.front_matter = list.front_matter

-- Ids that Quarto numbers by their prefix; every other id is an anchor.
local numbered = {}
for prefix in ("fig tbl eq sec lst thm lem cor prp cnj def exm exr sol rem alg nte tip wrn imp cau"):gmatch("%a+") do
  numbered[prefix] = true
end

-- How a piece of text can be found in the sources: by its words, as it has no name.
function M.by_words(element)
  if element.t == "Note" then element = pandoc.Div(element.content) end
  return "~" .. stringify(element):sub(1, 120)
end
function M.either(...) return table.concat({ ... }, "\31") end

local names = { FigureDiv = "figure", TableDiv = "table", Div = "division", Columns = "layout", View = "view", CodeBlock = "code block" }
function M.called(kind)
  local name = (names[kind] or kind):lower()
  return (name:match("^[aeiou]") and "an " or "a ") .. name
end

-- Tells of a `mark` that is not listed; `told` says it in words.
function M.unknown(mark, token, told)
  if not list.marks[mark] then
    problem(token, told .. " is not among the constructs that the report knows (report/_builtin/constructs.yaml)")
  end
end

M.ids = {}
local function check_id(kind, element)
  local id = element.identifier
  if id == "" then return end
  if M.ids[id] then problem("#" .. id, "the id '" .. id .. "' is used twice") end
  M.ids[id] = true
  local prefix = id:match("^(%a+)%-")
  local form = numbered[prefix] and "#" .. prefix .. "-" or id == "refs" and "#refs" or "#"
  M.unknown(kind .. " " .. form, "#" .. id, "the id '" .. id .. "' on " .. M.called(kind))
end

-- Holds one element against the list, as a `kind`.
function M.check(kind, element)
  if not list.marks[kind] then M.unknown(kind, M.by_words(element), M.called(kind)) end
  if not element.attr then return end
  local on = " on " .. M.called(kind)
  check_id(kind, element)
  for _, class in ipairs(element.classes) do
    if not (kind == "Verdict" and class == "verdict") and not (kind == "Link" and class == "uri") then
      M.unknown(kind .. " ." .. class, M.either("." .. class, "```" .. class, "class=\"" .. class, "class='" .. class), "the class '." .. class .. "'" .. on)
    end
  end
  for name in pairs(element.attributes) do
    M.unknown(kind .. " " .. name .. "=", name .. "=", "the attribute '" .. name .. "'" .. on)
  end
end

return M
