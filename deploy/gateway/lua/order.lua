-- Sorts lists of strings in a time that no caller can choose.

local FEW = 24  -- inserting is faster here, even for the worst order

local function insert_all(list)
  for n = 2, #list do
    local text, place = list[n], n
    while place > 1 and list[place - 1] > text do
      list[place] = list[place - 1]
      place = place - 1
    end
    list[place] = text
  end
end

local order = {}

-- Merges the sorted halves from[first, middle - 1] and from[middle, stop - 1] into `into`.
local function merge(from, into, first, middle, stop)
  local left, right = first, middle
  for place = first, stop - 1 do
    if left < middle and (right >= stop or from[left] <= from[right]) then
      into[place] = from[left]
      left = left + 1
    else
      into[place] = from[right]
      right = right + 1
    end
  end
end

-- Sorts a list of strings in place. table.sort is a quicksort: for a chosen order of ten thousand ids it takes a second,
-- and all other requests of the worker wait. Merging takes the same time for every order.
function order.sort(list)
  local count = #list
  if count <= FEW then
    return insert_all(list)
  end
  local from, into, width = list, {}, 1
  while width < count do
    for first = 1, count, 2 * width do
      merge(from, into, first, math.min(first + width, count + 1), math.min(first + 2 * width, count + 1))
    end
    from, into, width = into, from, 2 * width
  end
  if from ~= list then
    for n = 1, count do
      list[n] = from[n]
    end
  end
end

return order
